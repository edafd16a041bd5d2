"""*Now*: the chain at this moment; present problems come first."""

from aiohttp import web

from console.view import Console, View


def view(console: Console) -> View:
    async def show(request: web.Request) -> web.StreamResponse:
        return console.render(request, "now.html", {"states": console.fleet.states})

    return View("Now", "/", [web.get("/", show)])
