"""Reviews: what people say of events. Right, wrong, another label, missed."""
