"""The calls that services make all day, verify and forward-auth: answered in front of Django, without its middleware.

`messages` is what comes in and goes out, whatever server carries it; `asgi` carries it, and `views` where there is only
WSGI. Each operation is one coroutine from the one to the other.
"""
