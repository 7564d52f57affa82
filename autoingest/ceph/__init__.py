"""Administering a Ceph: topics, notifications of buckets, policies of buckets, and a test of the whole path."""
