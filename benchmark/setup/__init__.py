"""From a preset to a resolved run: configuration, settings, instruction banks, sampling."""
