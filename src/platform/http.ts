// node:http without its facade for ES modules, which evaluates every export at once: one of them is a getter that loads
// Node's client for fetch and WebSockets, and takes a third of the time in which a command starts.

export const { Agent, createServer, request } = process.getBuiltinModule('node:http')
