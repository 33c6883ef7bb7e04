"""bitsandbytes' AdamW with 8-bit moments, the same in every ZeRO stage.

transformers tells bitsandbytes' own class to keep the moments of embeddings in fp32 (`create_optimizer` in trainer.py),
which it can only where a parameter is a tensor by itself, as in plain torch: what is learned would hang on the stage.
"""

from __future__ import annotations

from bitsandbytes.optim import AdamW


class BlockwiseAdamW(AdamW):
    """Takes the keywords of bitsandbytes' AdamW."""
