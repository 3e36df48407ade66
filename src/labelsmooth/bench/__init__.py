"""What the losses cost beside their peers, measured on the machine at hand."""
