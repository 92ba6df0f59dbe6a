"""Other libraries' interfaces on this package's solvers: switch by changing one import."""
