// The generated part of docs/api.md: every route of the OpenAPI document with its parameters, body and answer, then the
// schemas of the answers.

import { openApiDocument } from '#api/openapi.ts'

type Schema = {
  readonly $ref?: string
  readonly type?: string | readonly string[]
  readonly enum?: readonly unknown[]
  readonly anyOf?: readonly Schema[]
  readonly items?: Schema
  readonly properties?: Readonly<Record<string, Schema>>
  readonly additionalProperties?: boolean | Schema
  readonly required?: readonly string[]
  readonly default?: unknown
  readonly description?: string
  readonly format?: string
}
type Content = Readonly<Record<string, { readonly schema: Schema }>>
type Operation = {
  readonly summary: string
  readonly parameters: readonly { readonly name: string; readonly in: string; readonly schema: Schema }[]
  readonly requestBody?: { readonly content: Content }
  readonly responses: Readonly<Record<string, { readonly content: Content }>>
}
type Document = {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> }
}

/** A heading for each route, in the document's order, and one for each schema. */
export function apiReference(): string {
  const { paths, components } = openApiDocument() as Document
  const routes = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => routeSection(`${method.toUpperCase()} ${path}`, operation))
  )
  const schemas = Object.entries(components.schemas).map(([name, schema]) => schemaSection(name, schema))
  return `## Routes\n\n${routes.join('\n')}\n## Schemas\n\n${schemas.join('\n')}`
}

function routeSection(title: string, { summary, parameters, requestBody, responses }: Operation): string {
  const query = Object.fromEntries(parameters.filter(one => one.in === 'query').map(one => [one.name, one.schema]))
  const [status = '', done] = Object.entries(responses).find(([code]) => code !== 'default') ?? []
  const lines = [
    `### \`${title}\`\n\n${summary}.\n`,
    fieldTable('query', query, []),
    ...Object.entries(requestBody?.content ?? {}).map(([type, { schema }]) => bodyOf(type, schema)),
    ...Object.entries(done?.content ?? {}).map(([type, { schema }]) => `${status}: ${kindOf(schema)}${as(type)}.\n`)
  ]
  return lines.filter(text => text !== '').join('\n')
}

function bodyOf(type: string, schema: Schema): string {
  if (schema.properties === undefined) return `Takes ${kindOf(schema)}${as(type)}.\n`
  return fieldTable('body', schema.properties, schema.required ?? [])
}

function schemaSection(name: string, schema: Schema): string {
  const description = schema.description === undefined ? '' : `${schema.description}.\n`
  const fields = fieldTable('field', flat(schema.properties ?? {}), schema.required ?? [])
  return [`### ${name}\n`, description, fields === '' && description === '' ? `${kindOf(schema)}.\n` : fields]
    .filter(text => text !== '')
    .join('\n')
}

/** Nested objects as `outer.inner`. */
function flat(properties: Readonly<Record<string, Schema>>, prefix = ''): Record<string, Schema> {
  return Object.fromEntries(
    Object.entries(properties).flatMap(([name, schema]) => {
      const inner = [schema, ...(schema.anyOf ?? [])].find(one => one.properties !== undefined)?.properties
      return [
        [`${prefix}${name}`, schema],
        ...Object.entries(inner === undefined ? {} : flat(inner, `${prefix}${name}.`))
      ]
    })
  )
}

function fieldTable(heading: string, fields: Readonly<Record<string, Schema>>, required: readonly string[]): string {
  const rows = Object.entries(fields).map(([name, schema]) => {
    const notes = [
      heading === 'body' && required.includes(name) ? 'required' : '',
      schema.default === undefined ? '' : `default \`${JSON.stringify(schema.default)}\``,
      schema.description ?? ''
    ]
    return `| \`${name}\` | ${kindOf(schema)} | ${notes.filter(note => note !== '').join('; ')} |\n`
  })
  return rows.length === 0 ? '' : `| ${heading} | type | |\n| --- | --- | --- |\n${rows.join('')}`
}

/** A schema in words: `list of Endpoint`, `text or null`. */
function kindOf({ $ref, type, enum: choices, anyOf, items, additionalProperties }: Schema): string {
  if ($ref !== undefined) {
    const name = $ref.split('/').at(-1) ?? ''
    return `[${name}](#${name.toLowerCase()})`
  }
  if (choices !== undefined) return choices.map(one => `\`${String(one)}\``).join(', ')
  if (anyOf !== undefined) return anyOf.map(kindOf).join(' or ')
  if (items !== undefined) return `list of ${kindOf(items)}`
  if (typeof additionalProperties === 'object' && Object.keys(additionalProperties).length > 0) {
    return `object of ${kindOf(additionalProperties)}`
  }
  const words = [type ?? 'any']
    .flat()
    .map(one => (one === 'string' ? 'text' : one === 'integer' ? 'whole number' : one))
  return words.join(' or ')
}

function as(type: string): string {
  return type === 'application/json' ? '' : ` as \`${type}\``
}
