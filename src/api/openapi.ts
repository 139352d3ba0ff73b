// The API's OpenAPI 3.1 document, from the schemas that its routes validate with. GET /v1/openapi.json serves it.

import * as z from 'zod'
import { VERSION } from '#platform/version.ts'
import { CNI_CALL } from './cni-route.ts'
import {
  endpointAttachBody,
  endpointUpdateBody,
  ifname,
  joinBody,
  kvPrefix,
  labelSelector,
  networkCreateBody,
  networkName,
  namespaceMapBody,
  networkUpdateBody,
  pageLimit,
  pageToken,
  serviceCreateBody,
  serviceUpdateBody,
  yes
} from './schemas.ts'
import { VIEWS, type ViewName } from './view-schemas.ts'

type Json = Readonly<Record<string, unknown>>

type Operation = {
  readonly does: string
  /** One, a list of all, or a list that may also be read in pages. */
  readonly answer: ViewName | readonly [ViewName] | { readonly page: ViewName }
  readonly status?: 201
  readonly body?: z.ZodType
  readonly query?: Readonly<Record<string, z.ZodType>>
  readonly type?: string
  /** Media type of a body that is not JSON. */
  readonly carries?: string
}

const ofInterface = { ifname: ifname.optional() }

/** Without them the whole list is answered. */
const paged = { limit: pageLimit, continue: pageToken }

/** By method and path, in Fastify's syntax. */
export const OPERATIONS: Readonly<Record<string, Operation>> = {
  'GET /v1/openapi.json': { does: 'This document', answer: 'Document' },
  'GET /v1/status': { does: 'Status of this host', answer: 'Status' },
  'GET /v1/doctor': { does: 'Checks this host and its paths to the others, with advice', answer: 'Doctor' },
  'GET /v1/members': { does: 'Hosts that Serf knows', answer: { page: 'Member' }, query: paged },
  'POST /v1/join': { does: 'Joins the mesh of other hosts', answer: 'Joined', body: joinBody },
  'POST /v1/leave': { does: 'Leaves the mesh and stops the agent', answer: 'Nothing' },
  'POST /v1/reload': {
    does: 'Reads the configuration again and applies what can change at run time',
    answer: 'Reloaded'
  },
  'GET /v1/hosts': { does: 'Hosts of the committed state', answer: { page: 'Host' }, query: paged },
  'GET /v1/hosts/:name': { does: 'One host', answer: 'Host' },
  'DELETE /v1/hosts/:name': { does: 'Removes a host and releases its endpoints', answer: 'Host' },
  'GET /v1/raft/peers': { does: 'Servers with the log index that each has replicated', answer: ['RaftPeer'] },
  'PUT /v1/raft/peers/:name': { does: 'Makes a host a voter, after it has caught up', answer: ['RaftPeer'] },
  'DELETE /v1/raft/peers/:name': { does: 'Makes a voter a client again', answer: ['RaftPeer'] },
  'PUT /v1/raft/leader/:name': { does: 'Transfers leadership to a server', answer: ['RaftPeer'] },
  'GET /v1/namespaces': {
    does: 'Kubernetes namespaces and the networks of their pods',
    answer: { page: 'Namespace' },
    query: paged
  },
  'PUT /v1/namespaces/:name': { does: 'Maps a namespace to a network', answer: 'Namespace', body: namespaceMapBody },
  'DELETE /v1/namespaces/:name': { does: 'Removes a mapping', answer: 'Namespace' },
  'GET /v1/kv': {
    does: 'The state as keys and values, in pages',
    answer: 'KvPage',
    query: { prefix: kvPrefix, after: kvPrefix, limit: pageLimit }
  },
  'GET /v1/kv/*': { does: 'The value of one key, which may contain slashes', answer: 'KvEntry' },
  'GET /v1/snapshot': {
    does: 'A backup of the whole state; with stale=true, of what this host has, without asking the leader',
    answer: 'Image',
    query: { stale: yes },
    type: 'application/octet-stream'
  },
  'POST /v1/cni': { does: 'A CNI call, forwarded by the plugin', answer: 'Cni', carries: CNI_CALL },
  'GET /v1/events': {
    does: 'Events as they happen; with recent=true, preceded by those that this agent remembers',
    answer: 'Event',
    query: { recent: yes },
    type: 'application/x-ndjson'
  },
  'GET /v1/networks': { does: 'All networks', answer: { page: 'Network' }, query: paged },
  'POST /v1/networks': {
    does: 'Creates a network; give either subnet or subnets',
    answer: 'Network',
    status: 201,
    body: networkCreateBody
  },
  'GET /v1/networks/:name': { does: 'One network', answer: 'Network' },
  'PATCH /v1/networks/:name': { does: 'Changes the given settings', answer: 'Network', body: networkUpdateBody },
  'DELETE /v1/networks/:name': {
    does: 'Deletes a network; with endpoints only if force=true',
    answer: 'Network',
    query: { force: yes }
  },
  'GET /v1/endpoints': {
    does: 'All endpoints, or those of one network, or those with labels; a page of the latter may be short or empty',
    answer: { page: 'Endpoint' },
    query: { network: networkName.optional(), label: labelSelector, ...paged }
  },
  'POST /v1/endpoints': {
    does: 'Attaches a container of this host to a network; give either netns or pid',
    answer: 'Endpoint',
    status: 201,
    body: endpointAttachBody
  },
  'GET /v1/endpoints/:id': {
    does: 'A container’s endpoints, or that of one interface',
    answer: ['Endpoint'],
    query: ofInterface
  },
  'PATCH /v1/endpoints/:id': {
    does: 'Changes labels, rates and delay; ifname defaults to eth0',
    answer: 'Endpoint',
    body: endpointUpdateBody,
    query: ofInterface
  },
  'DELETE /v1/endpoints/:id': {
    does: 'Detaches a container; ifname defaults to eth0',
    answer: 'Endpoint',
    query: ofInterface
  },
  'GET /v1/services': {
    does: 'All services, or those of one network',
    answer: { page: 'Service' },
    query: { network: networkName.optional(), ...paged }
  },
  'POST /v1/services': {
    does: 'Creates a service; give either select or backends',
    answer: 'Service',
    status: 201,
    body: serviceCreateBody
  },
  'GET /v1/services/:network/:name': { does: 'One service', answer: 'Service' },
  'PATCH /v1/services/:network/:name': {
    does: 'Changes what is given; select replaces backends, and the other way round',
    answer: 'Service',
    body: serviceUpdateBody
  },
  'DELETE /v1/services/:network/:name': { does: 'Deletes a service and frees its addresses', answer: 'Service' }
}

const BINARY = { type: 'string', format: 'binary' }

/** The document; constant while the process runs. */
export function openApiDocument(): Json {
  const paths: Record<string, Record<string, Json>> = {}
  for (const [route, operation] of Object.entries(OPERATIONS)) {
    const [method = '', url = ''] = route.split(' ')
    const path = url.replaceAll(/:(\w+)/g, '{$1}').replace('*', '{key}')
    paths[path] = { ...paths[path], [method.toLowerCase()]: operationOf(method, path, operation) }
  }
  return {
    openapi: '3.1.0',
    info: { title: 'vxmesh', version: VERSION, description: 'The agent’s API on its UNIX socket' },
    servers: [{ url: 'http://vxmesh', description: 'Through the UNIX socket only' }],
    paths,
    components: {
      schemas: Object.fromEntries([
        ...Object.entries(VIEWS).map(([name, schema]) => [name, jsonSchema(schema, 'output')] as const),
        ...pages()
      ])
    }
  }
}

function operationOf(
  method: string,
  path: string,
  { does, answer, status, body, query = {}, type, carries }: Operation
): Json {
  const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name = '']) => ({
    name,
    in: 'path',
    required: true,
    schema: { type: 'string' }
  }))
  const inQuery = Object.entries(query).map(([name, schema]) => {
    return { name, in: 'query', required: false, schema: jsonSchema(schema, 'input') }
  })
  const schema =
    typeof answer === 'string'
      ? reference(answer)
      : 'page' in answer
        ? { anyOf: [{ type: 'array', items: reference(answer.page) }, reference(pageName(answer.page))] }
        : { type: 'array', items: reference(answer[0]) }
  return {
    operationId: `${method.toLowerCase()}${path.replace('/v1', '').replaceAll(/\W+(\w?)/g, (_, c: string) => c.toUpperCase())}`,
    summary: does,
    parameters: [...inPath, ...inQuery],
    ...(body === undefined ? {} : { requestBody: { required: true, content: json(jsonSchema(body, 'input')) } }),
    ...(carries === undefined ? {} : { requestBody: { required: true, content: json(BINARY, carries) } }),
    responses: {
      [status ?? 200]: { description: 'Done', content: json(schema, type) },
      default: { description: 'Error; nothing was changed', content: json(reference('Error')) }
    }
  }
}

function pages(): readonly (readonly [name: string, schema: Json])[] {
  return Object.values(OPERATIONS).flatMap(({ answer }) =>
    typeof answer === 'object' && 'page' in answer ? [[pageName(answer.page), pageSchema(answer.page)] as const] : []
  )
}

function pageName(of: ViewName): string {
  return `${of}Page`
}

function pageSchema(of: ViewName): Json {
  return {
    type: 'object',
    properties: {
      items: { type: 'array', items: reference(of) },
      continue: {
        type: ['string', 'null'],
        description: 'To be given as `continue` for the next page; null on the last page'
      }
    },
    required: ['items', 'continue'],
    additionalProperties: false
  }
}

function reference(name: string): Json {
  return { $ref: `#/components/schemas/${name}` }
}

function json(schema: Json, type = 'application/json'): Json {
  return { [type]: { schema } }
}

/** The schema shows a parsed field as text; docs/ has the syntax that its parser demands. */
function jsonSchema(schema: z.ZodType, io: 'input' | 'output'): Json {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io, target: 'draft-2020-12', unrepresentable: 'any' })
  return rest
}
