"""The terminal beside the service: keys, gamepad, a screen, and the expert that needs no person.

Everything it does goes through the API, so what a key does, a button of the dashboard does too.
"""
