"""What every experiment runs with: settings, data, networks, training, and what is kept."""
