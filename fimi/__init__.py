"""FIMI testbed: energy-aware federated learning on real edge devices."""
