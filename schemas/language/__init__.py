"""The schema language: `.edge` files to trees (`parse`), to what they mean (`build`, `platform`, `schema`)."""
