"""The part of PyTorch that ``TorchDataset`` needs, for machines without PyTorch."""
