"""Image losses and the one definition of PSNR."""
