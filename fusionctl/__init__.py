"""Fusion's command line, and the client for programs in :mod:`fusionctl.client`."""
