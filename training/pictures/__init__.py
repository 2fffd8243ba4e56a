"""What TensorBoard shows beyond curves: a file for each family of pictures."""
