"""What goes back to the PACS: Structured Report, heatmap, and the check before they leave."""
