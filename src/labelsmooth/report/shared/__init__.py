"""What the reports of studies and audits share: the page, its figures and its words."""
