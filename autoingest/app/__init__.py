"""What surrounds the roles: process, configuration, logging, metrics, health, retries."""
