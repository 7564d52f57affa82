"""The program around the roles: configuration, logging, metrics, health, retries."""
