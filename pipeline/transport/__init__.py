"""What flows between the stages: topics, messages, sockets, and the frame ring."""
