// The HTTP/JSON API on the UNIX socket (contract 6.4). A door only: it checks, asks the agent, and answers.

import { fastify, type FastifyInstance, type FastifyReply } from 'fastify'
import { asVxmeshError, ERROR_CODES, VxmeshError } from '#model/errors.ts'
import { parseHostName } from '#model/ids.ts'
import type { Logger } from '#platform/log.ts'
import type { AgentPort } from './agent-port.ts'
import { eventStream } from './event-stream.ts'
import {
  check,
  containerId,
  endpointAttachBody,
  ifname,
  joinBody,
  networkCreateBody,
  networkName,
  networkUpdateBody
} from './schemas.ts'
import { prepareSocket } from './socket-file.ts'

const MAX_BODY_BYTES = 64 * 1024
/** No request of ours takes longer; an attach may wait for a leader and for the kernel. */
const REQUEST_TIMEOUT_MS = 30_000

export type ApiOptions = { readonly socketPath: string; readonly agent: AgentPort; readonly logger: Logger }

/** Listens until closed. @throws ERR_CONFIG naming socket */
export async function startApi(options: ApiOptions): Promise<{ close(): Promise<void> }> {
  const { socketPath, agent, logger } = options
  await prepareSocket(socketPath)
  const server = buildApi(agent, logger)
  // The file must never be there with other rights, not even between bind and chmod.
  const before = process.umask(0o177)
  try {
    await server.listen({ path: socketPath })
  } finally {
    process.umask(before)
  }
  return { close: () => server.close() }
}

/** The routes without a socket; for tests and documents. */
export function buildApi(agent: AgentPort, logger: Logger): FastifyInstance {
  const server = fastify({
    logger: false,
    bodyLimit: MAX_BODY_BYTES,
    requestTimeout: REQUEST_TIMEOUT_MS,
    forceCloseConnections: true,
    onProtoPoisoning: 'error',
    onConstructorPoisoning: 'error'
  })
  server.setErrorHandler((thrown, _request, reply) => {
    const err = fromFastify(thrown)
    if (err.code === 'ERR_INTERNAL') logger.error({ err }, 'request failed')
    return sendError(reply, err)
  })
  server.setNotFoundHandler((request, reply) =>
    sendError(reply, new VxmeshError('ERR_ROUTE_NOT_FOUND', `there is no ${request.method} ${request.url}`))
  )
  clusterRoutes(server, agent)
  networkRoutes(server, agent)
  endpointRoutes(server, agent)
  return server
}

function clusterRoutes(server: FastifyInstance, agent: AgentPort): void {
  server.get('/v1/status', () => agent.status())
  server.get('/v1/members', () => agent.members())
  server.post('/v1/join', request => agent.join(check(joinBody, request.body).addresses))
  server.post('/v1/leave', async () => {
    await agent.leave()
    return {}
  })
  server.get('/v1/hosts', () => agent.hostList())
  server.get<{ Params: { name: string } }>('/v1/hosts/:name', r => agent.hostShow(parseHostName(r.params.name)))
  server.delete<{ Params: { name: string } }>('/v1/hosts/:name', r => agent.hostRemove(parseHostName(r.params.name)))
  server.get('/v1/raft/peers', () => agent.raftPeers())
  server.get('/v1/events', (_, reply) =>
    reply.type('application/x-ndjson').send(eventStream(listener => agent.watch(listener)))
  )
}

function networkRoutes(server: FastifyInstance, agent: AgentPort): void {
  type Named = { Params: { name: string }; Querystring: { force?: string } }
  const name = (request: { params: { name: string } }): ReturnType<typeof networkName.parse> =>
    check(networkName, request.params.name)
  server.get('/v1/networks', () => agent.networkList())
  server.post('/v1/networks', (request, reply) => {
    void reply.code(201)
    return agent.networkCreate(compact(check(networkCreateBody, request.body)))
  })
  server.get<Named>('/v1/networks/:name', r => agent.networkShow(name(r)))
  server.patch<Named>('/v1/networks/:name', r =>
    agent.networkUpdate(name(r), compact(check(networkUpdateBody, r.body)))
  )
  server.delete<Named>('/v1/networks/:name', r => agent.networkDelete(name(r), r.query.force === 'true'))
}

function endpointRoutes(server: FastifyInstance, agent: AgentPort): void {
  type One = { Params: { id: string }; Querystring: { ifname?: string } }
  server.get<{ Querystring: { network?: string } }>('/v1/endpoints', r =>
    r.query.network === undefined ? agent.endpointList() : agent.endpointList(check(networkName, r.query.network))
  )
  server.post('/v1/endpoints', (request, reply) => {
    const { pid, netns, ...facts } = check(endpointAttachBody, request.body)
    void reply.code(201)
    return agent.endpointAttach({ ...compact(facts), netns: netns ?? `/proc/${pid ?? 0}/ns/net` })
  })
  server.get<One>('/v1/endpoints/:id', r => {
    const id = check(containerId, r.params.id)
    return r.query.ifname === undefined ? agent.endpointShow(id) : agent.endpointShow(id, check(ifname, r.query.ifname))
  })
  server.delete<One>('/v1/endpoints/:id', r =>
    agent.endpointDetach(check(containerId, r.params.id), check(ifname, r.query.ifname ?? 'eth0'))
  )
}

/** Without the keys that are undefined: absent and undefined are different things to our types. */
function compact<T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  const present = Object.entries(value).filter(([, inner]) => inner !== undefined)
  return Object.fromEntries(present) as { [K in keyof T]: Exclude<T[K], undefined> }
}

/** Fastify's own refusals in our words. */
function fromFastify(thrown: unknown): VxmeshError {
  if (thrown instanceof VxmeshError) return thrown
  const { statusCode, message } = thrown as { statusCode?: unknown; message?: unknown }
  if (statusCode === 413) return new VxmeshError('ERR_TOO_LARGE', `the body is over ${MAX_BODY_BYTES} bytes`)
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) {
    return new VxmeshError('ERR_INVALID', `body: ${String(message)}`, { field: 'body', cause: thrown })
  }
  return asVxmeshError(thrown)
}

function sendError(reply: FastifyReply, err: VxmeshError): FastifyReply {
  return reply.code(ERROR_CODES[err.code].http).send({ error: err.toBody() })
}
