"""What is measured, one diagnostic a file: units, ranks, weights, gradients, and the returns of tasks."""
