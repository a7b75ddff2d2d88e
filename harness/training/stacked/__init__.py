"""Fused training: trials of one architecture and one data set as one stack of K."""
