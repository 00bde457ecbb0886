"""An OpenAI-compatible endpoint for a policy.

    body --fields, chat, completions--> token ids --backend: our engine, or vLLM--> tokens --texts--> answer or stream

The renderer and the parser that training used write the prompts and read the calls; a backend sees token ids alone.
"""
