"""The base of taught packs: graphs whose features are there before anything is taught."""
