// The HTTP/JSON API on the UNIX socket (contract 6.4): validates requests, calls the agent, and answers.

import { Readable } from 'node:stream'
import { fastify, type FastifyInstance, type FastifyReply } from 'fastify'
import type { ServiceKey } from '#model/command.ts'
import { asVxmeshError, ERROR_CODES, VxmeshError } from '#model/errors.ts'
import { parseContainerId, parseHostName, parseNetworkName } from '#model/ids.ts'
import type { ContainerId, HostName, NamespaceName, NetworkName } from '#model/ids.ts'
import { grantsOf } from '#model/namespace.ts'
import type { Clock } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'
import { netnsOfPid } from '#platform/netns.ts'
import type { AgentPort } from '#model/agent-port.ts'
import { cniRoute } from './cni-route.ts'
import { eventStream } from './event-stream.ts'
import { answerList, type Listed } from './list-route.ts'
import { openApiDocument } from './openapi.ts'
import {
  check,
  endpointAttachBody,
  endpointUpdateBody,
  ifname,
  joinBody,
  kvPrefix,
  labelSelector,
  namespaceMapBody,
  namespaceName,
  networkCreateBody,
  networkName,
  networkUpdateBody,
  pageLimit,
  serviceCreateBody,
  serviceName,
  serviceUpdateBody,
  yes
} from './schemas.ts'
import { prepareSocket } from './socket-file.ts'

const MAX_BODY_BYTES = 64 * 1024
/** Container ids have at most 128 characters; longer ones must reach their parser, not fail in the router. */
const MAX_PARAM_LENGTH = 1_024
/** The longest request: a new server may take a minute to catch up before it votes. */
const REQUEST_TIMEOUT_MS = 90_000
/** A connection that has not sent the head of a request by then is closed: it would hold a descriptor. */
const HEAD_TIMEOUT_MS = 5_000
/** A connection without a further request is closed after so long. */
const KEEP_ALIVE_MS = 15_000

export type RouteOptions = {
  readonly agent: AgentPort
  readonly logger: Logger
  readonly clock: Clock
  /** Called for each route that is registered. */
  readonly onRoute?: (route: { readonly method: string | string[]; readonly url: string }) => void
}

export type ApiOptions = RouteOptions & { readonly socketPath: string }

/** Listens until closed. @throws ERR_CONFIG naming socket */
export async function startApi(options: ApiOptions): Promise<{ close(): Promise<void> }> {
  const { socketPath } = options
  await prepareSocket(socketPath)
  const server = buildApi(options)
  // The socket must never have other permissions, not even between bind and chmod.
  const previousUmask = process.umask(0o177)
  try {
    await server.listen({ path: socketPath })
  } finally {
    process.umask(previousUmask)
  }
  return { close: () => server.close() }
}

/** The routes without a socket, for tests and documents. */
export function buildApi({ agent, logger, clock, onRoute }: RouteOptions): FastifyInstance {
  const server = fastify({
    logger: false,
    bodyLimit: MAX_BODY_BYTES,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    http: { headersTimeout: HEAD_TIMEOUT_MS, connectionsCheckingInterval: 1_000 },
    forceCloseConnections: true,
    onProtoPoisoning: 'error',
    onConstructorPoisoning: 'error',
    routerOptions: { maxParamLength: MAX_PARAM_LENGTH },
    // A malformed URL reaches neither a route nor the error handler.
    frameworkErrors: (err, _request, reply) => {
      sendError(reply, fromFastify(err, 'url'))
    }
  })
  server.setErrorHandler((thrown, _request, reply) => {
    const err = fromFastify(thrown)
    if (err.code === 'ERR_INTERNAL') logger.error({ err }, 'request failed')
    return sendError(reply, err)
  })
  server.setNotFoundHandler((request, reply) =>
    sendError(reply, new VxmeshError('ERR_ROUTE_NOT_FOUND', `there is no ${request.method} ${request.url}`))
  )
  if (onRoute !== undefined) server.addHook('onRoute', onRoute)
  const document = openApiDocument()
  server.get('/v1/openapi.json', () => document)
  clusterRoutes(server, agent)
  eventsRoute(server, agent, clock)
  networkRoutes(server, agent)
  endpointRoutes(server, agent)
  serviceRoutes(server, agent)
  namespaceRoutes(server, agent)
  kvRoutes(server, agent)
  snapshotRoute(server, agent)
  cniRoute(server, agent)
  return server
}

function clusterRoutes(server: FastifyInstance, agent: AgentPort): void {
  type Named = { Params: { name: string } }
  const name = (request: { params: Named['Params'] }): HostName => parseHostName(request.params.name)
  server.get('/v1/status', () => agent.status())
  server.get('/v1/doctor', () => agent.doctor())
  server.get<Listed>('/v1/members', (r, reply) => answerList(r, reply, range => agent.memberList(range)))
  server.post('/v1/join', request => agent.join(check(joinBody, request.body).addresses))
  server.post('/v1/leave', async () => {
    await agent.leave()
    return {}
  })
  server.post('/v1/reload', () => agent.reload())
  server.get<Listed>('/v1/hosts', (r, reply) => answerList(r, reply, range => agent.hostList(range)))
  server.get<Named>('/v1/hosts/:name', r => agent.hostShow(name(r)))
  server.delete<Named>('/v1/hosts/:name', r => agent.hostRemove(name(r)))
  server.get('/v1/raft/peers', () => agent.raftPeers())
  server.put<Named>('/v1/raft/peers/:name', r => agent.raftAdd(name(r)))
  server.delete<Named>('/v1/raft/peers/:name', r => agent.raftRemove(name(r)))
  server.put<Named>('/v1/raft/leader/:name', r => agent.raftTransfer(name(r)))
}

function eventsRoute(server: FastifyInstance, agent: AgentPort, clock: Clock): void {
  server.get<{ Querystring: { recent?: string } }>('/v1/events', (request, reply) => {
    const recent = check(yes, request.query.recent, 'recent')
    const stream = eventStream({ listen: listener => agent.watch(listener, recent), clock })
    return reply.type('application/x-ndjson').send(stream)
  })
}

function networkRoutes(server: FastifyInstance, agent: AgentPort): void {
  type Named = { Params: { name: string }; Querystring: { force?: string } }
  const name = (request: { params: Named['Params'] }): NetworkName => parseNetworkName(request.params.name)
  server.get<Listed>('/v1/networks', (r, reply) => answerList(r, reply, range => agent.networkList(range)))
  server.post('/v1/networks', async (request, reply) => {
    const network = await agent.networkCreate(compact(check(networkCreateBody, request.body)))
    return reply.code(201).send(network)
  })
  server.get<Named>('/v1/networks/:name', r => agent.networkShow(name(r)))
  server.patch<Named>('/v1/networks/:name', r =>
    agent.networkUpdate(name(r), compact(check(networkUpdateBody, r.body)))
  )
  server.delete<Named>('/v1/networks/:name', r => agent.networkDelete(name(r), check(yes, r.query.force, 'force')))
}

function endpointRoutes(server: FastifyInstance, agent: AgentPort): void {
  type One = { Params: { id: string }; Querystring: { ifname?: string } }
  const id = (request: { params: One['Params'] }): ContainerId => parseContainerId(request.params.id)
  type Filtered = { Querystring: { network?: string; label?: string | string[] } & Listed['Querystring'] }
  server.get<Filtered>('/v1/endpoints', (r, reply) => {
    const network = r.query.network === undefined ? undefined : check(networkName, r.query.network, 'network')
    const filter = compact({ network, selector: check(labelSelector, r.query.label, 'label') })
    return answerList(r, reply, range => agent.endpointList(range, filter))
  })
  server.post('/v1/endpoints', async (request, reply) => {
    const { pid, netns, ...facts } = check(endpointAttachBody, request.body)
    const path = netns ?? netnsOfPid(pid ?? 0)
    const endpoint = await agent.endpointAttach({ ...compact(facts), netns: path })
    return reply.code(201).send(endpoint)
  })
  server.get<One>('/v1/endpoints/:id', r =>
    r.query.ifname === undefined
      ? agent.endpointShow(id(r))
      : agent.endpointShow(id(r), check(ifname, r.query.ifname, 'ifname'))
  )
  server.patch<One>('/v1/endpoints/:id', r =>
    agent.endpointUpdate(
      id(r),
      check(ifname, r.query.ifname ?? 'eth0', 'ifname'),
      compact(check(endpointUpdateBody, r.body))
    )
  )
  server.delete<One>('/v1/endpoints/:id', r =>
    agent.endpointDetach(id(r), check(ifname, r.query.ifname ?? 'eth0', 'ifname'))
  )
}

function serviceRoutes(server: FastifyInstance, agent: AgentPort): void {
  type Named = { Params: { network: string; name: string } }
  const key = ({ params }: { params: Named['Params'] }): ServiceKey => ({
    network: check(networkName, params.network, 'network'),
    name: check(serviceName, params.name, 'name')
  })
  type Filtered = { Querystring: { network?: string } & Listed['Querystring'] }
  server.get<Filtered>('/v1/services', (r, reply) => {
    const network = r.query.network === undefined ? undefined : check(networkName, r.query.network, 'network')
    return answerList(r, reply, range => agent.serviceList(range, network))
  })
  server.post('/v1/services', async (request, reply) => {
    const service = await agent.serviceCreate(compact(check(serviceCreateBody, request.body)))
    return reply.code(201).send(service)
  })
  server.get<Named>('/v1/services/:network/:name', r => agent.serviceShow(key(r)))
  server.patch<Named>('/v1/services/:network/:name', r =>
    agent.serviceUpdate(key(r), compact(check(serviceUpdateBody, r.body)))
  )
  server.delete<Named>('/v1/services/:network/:name', r => agent.serviceDelete(key(r)))
}

function namespaceRoutes(server: FastifyInstance, agent: AgentPort): void {
  type Named = { Params: { name: string } }
  const name = (request: { params: Named['Params'] }): NamespaceName =>
    check(namespaceName, request.params.name, 'name')
  server.get<Listed>('/v1/namespaces', (r, reply) => answerList(r, reply, range => agent.namespaceList(range)))
  server.put<Named>('/v1/namespaces/:name', r => {
    const { network, grants } = check(namespaceMapBody, r.body)
    return agent.namespaceMap({ namespace: name(r), network, grants: grantsOf(network, grants) })
  })
  server.delete<Named>('/v1/namespaces/:name', r => agent.namespaceUnmap(name(r)))
}

function kvRoutes(server: FastifyInstance, agent: AgentPort): void {
  type Page = { Querystring: { prefix?: string; after?: string; limit?: string } }
  server.get<Page>('/v1/kv', ({ query }) =>
    agent.kvList({
      prefix: check(kvPrefix, query.prefix, 'prefix'),
      after: check(kvPrefix, query.after, 'after'),
      limit: check(pageLimit, query.limit, 'limit')
    })
  )
  server.get<{ Params: { '*': string } }>('/v1/kv/*', ({ params }) => agent.kvGet(check(kvPrefix, params['*'], 'key')))
}

function snapshotRoute(server: FastifyInstance, agent: AgentPort): void {
  server.get<{ Querystring: { stale?: string } }>('/v1/snapshot', async ({ query }, reply) => {
    const chunks = await agent.snapshotSave(check(yes, query.stale, 'stale'))
    return reply.type('application/octet-stream').send(Readable.from(chunks))
  })
}

/** Removes undefined values: exactOptionalPropertyTypes distinguishes absent from undefined. */
function compact<T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  const present = Object.entries(value).filter(([, inner]) => inner !== undefined)
  return Object.fromEntries(present) as { [K in keyof T]: Exclude<T[K], undefined> }
}

/** Fastify's own errors as VxmeshErrors. */
function fromFastify(thrown: unknown, field = 'body'): VxmeshError {
  if (thrown instanceof VxmeshError) return thrown
  const { statusCode, message } = thrown as { statusCode?: unknown; message?: unknown }
  if (statusCode === 413) return new VxmeshError('ERR_TOO_LARGE', `the body is over ${MAX_BODY_BYTES} bytes`)
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) {
    return new VxmeshError('ERR_INVALID', `${field}: ${String(message)}`, { field, cause: thrown })
  }
  return asVxmeshError(thrown)
}

function sendError(reply: FastifyReply, err: VxmeshError): FastifyReply {
  return reply.code(ERROR_CODES[err.code].http).send({ error: err.toBody() })
}
