"""``edgectl``'s commands, one module each, and what they share.

A command's module may not import another command's; `get` alone has `watch`, for its ``--watch``. `parser`
and `arguments`, all that help takes, import nothing but the standard library and each other.
"""
