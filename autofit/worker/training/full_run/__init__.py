"""The full run on one rank: trained, judged, told, saved, merged."""
