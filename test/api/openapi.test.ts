import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Validator } from '@seriousme/openapi-schema-validator'
import t from 'tap'
import { OPERATIONS, openApiDocument } from '#api/openapi.ts'
import { buildApi } from '#api/server.ts'
import { VIEWS } from '#api/view-schemas.ts'
import { systemClock } from '#platform/clock.ts'
import { createLogger } from '#platform/log.ts'
import { MemoryHost } from '#test/agent/memory-host.ts'

type Node = Readonly<Record<string, unknown>>
type Parameter = { readonly name: string; readonly in: string; readonly required: boolean; readonly schema: Node }
type Content = Readonly<Record<string, { readonly schema: Node }>>
type Operation = {
  readonly operationId: string
  readonly summary: string
  readonly parameters: readonly Parameter[]
  readonly requestBody?: { readonly content: Content }
  readonly responses: Readonly<Record<string, { readonly description: string; readonly content: Content }>>
}
type Document = {
  readonly openapi: string
  readonly info: { readonly title: string; readonly version: string }
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly components: { readonly schemas: Readonly<Record<string, Node>> }
}

const logger = createLogger('silent')
/** Routes whose answers are not JSON objects of ours, with the test file and call that cover them. */
const ELSEWHERE: Readonly<Record<string, readonly [file: string, call: string]>> = {
  'GET /v1/events': ['api/server.test.ts', "lines('/v1/events')"],
  'POST /v1/cni': ['cni/verbs.test.ts', 'callPlugin('],
  'GET /v1/snapshot': ['api/snapshot.test.ts', "url: '/v1/snapshot'"]
}
const TYPES = ['object', 'array', 'string', 'number', 'integer', 'boolean', 'null']
const KEYWORDS = new Set(
  [
    '$ref type properties required additionalProperties items enum const default description format pattern anyOf oneOf',
    'allOf minimum maximum exclusiveMinimum exclusiveMaximum minLength maxLength minItems maxItems propertyNames'
  ].flatMap(line => line.split(' '))
)
const document = JSON.parse(JSON.stringify(openApiDocument())) as Document
const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ path, method, operation }))
)

t.test('the document has exactly the routes of the API', async t => {
  const routes = new Set<string>()
  const server = buildApi({
    agent: new MemoryHost().port,
    logger,
    clock: systemClock,
    onRoute: ({ method, url }) => {
      for (const one of [method].flat()) if (one !== 'HEAD') routes.add(`${one} ${url}`)
    }
  })
  await server.ready()
  await server.close()
  t.same([...routes].sort(), Object.keys(OPERATIONS).sort())
  t.same(
    operations
      .map(
        ({ method, path }) => `${method.toUpperCase()} ${path.replace('{key}', '*').replaceAll(/\{(\w+)\}/g, ':$1')}`
      )
      .sort(),
    [...routes].sort()
  )
  t.ok(routes.size >= 20)
})

t.test('the API serves the document', async t => {
  const server = buildApi({ agent: new MemoryHost().port, logger, clock: systemClock })
  const response = await server.inject({ method: 'GET', url: '/v1/openapi.json' })
  await server.close()
  t.match(response.headers['content-type'], /^application\/json/)
  t.same(response.json(), document)
})

t.test('the document is valid against the schema of OpenAPI 3.1, and a broken one is not', async t => {
  const verdict = await new Validator().validate(structuredClone(document))
  t.same(verdict, { valid: true })
  t.equal((await new Validator().validate({ ...structuredClone(document), info: { title: 'vxmesh' } })).valid, false)
})

t.test('the document has the expected structure', t => {
  t.match(document.openapi, /^3\.1\.\d+$/)
  t.match(document.info, { title: 'vxmesh', version: /^\d+\.\d+\.\d+/ })
  const ids = operations.map(({ operation }) => operation.operationId)
  t.equal(new Set(ids).size, ids.length, ids.join(' '))
  for (const { path, method, operation } of operations) {
    const what = `${method} ${path}`
    t.match(path, /^\/v1(\/[a-z.]+|\/\{\w+\})+$/, what)
    t.match(operation, { operationId: /^[a-z][A-Za-z]+$/, summary: /^[A-Z]/ }, what)
    const inPath = operation.parameters.filter(parameter => parameter.in === 'path')
    t.same(
      inPath.map(({ name }) => `{${name}}`),
      path.match(/\{\w+\}/g) ?? [],
      what
    )
    t.ok(inPath.every(({ required }) => required))
    t.ok(operation.parameters.every(parameter => ['path', 'query'].includes(parameter.in)))
    const takesBody = ['post', 'patch'].includes(method) || what === 'put /v1/namespaces/{name}'
    t.equal(operation.requestBody === undefined, !takesBody || ['/v1/leave', '/v1/reload'].includes(path), what)
    t.ok(
      Object.keys(operation.responses).every(status => /^(20[01]|default)$/.test(status)) &&
        operation.responses['default']
    )
    const parts: (Content | undefined)[] = Object.values(operation.responses).map(({ content }) => content)
    const schemas = [...parts, operation.requestBody?.content].flatMap(content =>
      Object.values(content ?? {}).map(({ schema }) => schema)
    )
    for (const schema of [...schemas, ...operation.parameters.map(({ schema }) => schema)]) {
      t.same(faults(schema, what), [])
    }
  }
  for (const [name, schema] of Object.entries(document.components.schemas)) t.same(faults(schema, name), [])
  t.end()
})

t.test('the schema of a body names its fields, which are required, and allows no others', t => {
  const body = (path: string, method: string): unknown =>
    document.paths[path]?.[method]?.requestBody?.content['application/json']?.schema
  t.match(body('/v1/networks', 'post'), {
    required: ['name'],
    additionalProperties: false,
    properties: {
      vni: { type: 'number' },
      egress: { type: 'boolean', default: true },
      subnet: { type: 'string' },
      subnets: { type: 'array', items: { type: 'string' }, maxItems: 2 }
    }
  })
  t.match(body('/v1/endpoints', 'post'), {
    required: ['network', 'containerId'],
    properties: { pid: { type: 'integer' }, egressRate: { anyOf: [{ type: 'number' }, { type: 'string' }] } }
  })
  t.end()
})

t.test('a route that is not called below is called in the named test', t => {
  for (const [route, [file, call]] of Object.entries(ELSEWHERE)) {
    t.ok(Object.hasOwn(OPERATIONS, route), route)
    t.ok(readFileSync(join(import.meta.dirname, '..', file), 'utf8').includes(call), `${route}: ${file}`)
  }
  t.end()
})

t.test('the API’s answers match the document', async t => {
  const agent = new MemoryHost()
  agent.caller.raise()
  const server = buildApi({ agent: agent.port, logger, clock: systemClock })
  t.teardown(() => server.close())
  const attach = { network: 'red', containerId: 'web', netns: '/run/netns/web' }
  const bodies: Readonly<Record<string, object>> = {
    'POST /v1/endpoints': attach,
    'POST /v1/networks': { name: 'blue', subnet: '10.2.0.0/24' },
    'POST /v1/join': { addresses: ['192.0.2.1'] },
    'PUT /v1/namespaces/:name': { network: 'red' },
    'PATCH /v1/networks/:name': { egressRate: 0 },
    'PATCH /v1/endpoints/:id': { delayUs: 0 },
    'POST /v1/services': { network: 'red', name: 'red', ports: ['80'], select: ['app'] },
    'PATCH /v1/services/:network/:name': { affinitySeconds: 9 }
  }
  const order = (route: string): number => {
    const methods = ['POST', 'PUT', 'GET', 'PATCH', 'DELETE']
    if (route.startsWith('DELETE /v1/services')) return order('DELETE') - 0.5
    return route === 'DELETE /v1/hosts/:name' ? methods.length : methods.indexOf(route.split(' ')[0] ?? '')
  }
  const routes = Object.entries(OPERATIONS).filter(([route]) => !Object.hasOwn(ELSEWHERE, route))
  // Endpoints and services are deleted before their networks, and hosts last.
  const sorted = routes.sort(([a], [b]) => order(a) - order(b) || (a < b ? -1 : 1))
  for (const [route, { answer, status = 200 }] of sorted) {
    const [method, path = ''] = route.split(' ')
    const url = path
      .replace('*', 'network/red')
      .replace(':id', 'web')
      .replace(':network', 'red')
      .replace(':name', /hosts|raft/.test(path) ? 'h2' : 'red')
    const payload = bodies[route] === undefined ? {} : { payload: bodies[route] }
    const response = await server.inject({ method: method as 'GET', url, ...payload })
    t.equal(response.statusCode, status, `${route} ${response.body}`)
    const [schema, rows] =
      typeof answer === 'string'
        ? [VIEWS[answer], [response.json()]]
        : 'page' in answer
          ? [VIEWS[answer.page], response.json<unknown[]>()]
          : [VIEWS[answer[0]], response.json<unknown[]>()]
    t.ok(rows.length > 0, route)
    for (const row of rows) t.same(schema.safeParse(row).error?.issues ?? [], [], route)
  }
  const refused = await server.inject({ method: 'GET', url: '/v1/networks/nope' })
  t.ok(VIEWS.Error.safeParse(refused.json()).success)
})

t.test('the structure check detects errors', t => {
  for (const bad of [
    { type: 'text' },
    { type: 'object', required: ['x'], properties: {} },
    { type: 'array' },
    { anyOf: [] },
    { $ref: '#/components/schemas/None' },
    { type: 'string', pattern: '(' },
    { type: 'string', colour: 'blue' },
    { type: 'object', properties: { x: { enum: [] } } }
  ]) {
    t.not(faults(bad, 'bad').length, 0, JSON.stringify(bad))
  }
  t.end()
})

/** The errors of a JSON schema, limited to the keywords that we use. */
function faults(schema: unknown, at: string): string[] {
  if (typeof schema === 'boolean') return []
  if (typeof schema !== 'object' || schema === null) return [`${at}: no schema`]
  const node = schema as Node
  const found = Object.keys(node).flatMap(key => (KEYWORDS.has(key) ? [] : [`${at}: ${key}`]))
  const { type, properties, required, items, anyOf, $ref, pattern, additionalProperties } = node
  if (type !== undefined && ![type].flat().every(one => TYPES.includes(one as string)))
    found.push(`${at}: type ${JSON.stringify(type)}`)
  if (
    $ref !== undefined &&
    document.components.schemas[text($ref).replace('#/components/schemas/', '')] === undefined
  ) {
    found.push(`${at}: ${JSON.stringify($ref)} leads nowhere`)
  }
  if (type === 'array' && items === undefined) found.push(`${at}: no items`)
  const choices = [node['enum'], anyOf].filter(list => list !== undefined)
  if (choices.some(list => !Array.isArray(list) || list.length === 0)) found.push(`${at}: no choice`)
  const fields = Object.entries((properties ?? {}) as Node)
  for (const name of (required ?? []) as string[]) {
    if (!fields.some(([field]) => field === name)) found.push(`${at}: required ${name} is no property`)
  }
  if (pattern !== undefined && !isPattern(text(pattern))) found.push(`${at}: pattern`)
  const inner: [string, unknown][] = [
    ...fields,
    ...((anyOf ?? []) as unknown[]).map((one, n): [string, unknown] => [`${n}`, one])
  ]
  if (items !== undefined) inner.push(['items', items])
  if (additionalProperties !== undefined) inner.push(['additionalProperties', additionalProperties])
  return [...found, ...inner.flatMap(([name, one]) => faults(one, `${at}.${name}`))]
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

function isPattern(text: string): boolean {
  try {
    return new RegExp(text, 'u').source !== ''
  } catch {
    return false
  }
}
