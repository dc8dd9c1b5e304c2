"""What a thinker can think with: a CTranslate2 model, an OpenAI-compatible endpoint, or nothing."""
