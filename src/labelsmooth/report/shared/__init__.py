"""The common part of the reports of studies and audits: the page, its figures and its words."""
