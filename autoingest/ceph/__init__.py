"""What a Ceph must be told: topics, notifications of buckets, policies of buckets."""
