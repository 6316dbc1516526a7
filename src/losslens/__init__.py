"""Train one image autoencoder under many losses and see what each loss values and what it is blind to."""
