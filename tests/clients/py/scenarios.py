async def run(urls):
    pass
