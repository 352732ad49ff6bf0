"""Metrics for Prometheus: what the daemon's actors know, heard at the exchange or asked for as clients do, over HTTP."""
