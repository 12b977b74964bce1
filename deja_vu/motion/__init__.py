"""Sources of motion for an avatar, and retargeting from one person to another."""
