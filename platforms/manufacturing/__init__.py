"""The manufacturing platform: welded parts on a line, watched for defects of the seam."""
