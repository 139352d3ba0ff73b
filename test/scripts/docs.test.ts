import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import t from 'tap'
import { openApiDocument } from '#api/openapi.ts'
import { ERROR_CODES } from '#model/errors.ts'
import { CONFIG_KEYS, flagOf, variableOf } from '#config/load.ts'
import { commandHelp, PAGES, pathOf, withGeneratedPart } from '../../scripts/docs.ts'

const root = resolve(import.meta.dirname, '../..')

t.test('the committed pages are up to date with `node scripts/docs.ts`', t => {
  for (const page of Object.keys(PAGES)) {
    t.equal(withGeneratedPart(page), readFileSync(pathOf(page), 'utf8'), `${page}: run node scripts/docs.ts`)
  }
  t.end()
})

t.test('the page of the configuration has exactly the keys, with flags and variables', t => {
  const page = readFileSync(pathOf('configuration.md'), 'utf8')
  t.same(
    [...page.matchAll(/^### `(.+)`$/gm)].map(match => match[1]),
    CONFIG_KEYS
  )
  for (const key of CONFIG_KEYS) t.ok(page.includes(`\`${flagOf(key)}\`, \`${variableOf(key)}\`.`), key)
  t.end()
})

t.test('the page of the command line has exactly the commands', t => {
  const page = readFileSync(pathOf('cli.md'), 'utf8')
  const commands = commandHelp().map(({ path }) => `vxmesh ${path}`.trim())
  t.same(
    [...page.matchAll(/^## `(.+)`$/gm)].map(match => match[1]),
    commands
  )
  t.ok(commands.length >= 25)
  t.end()
})

t.test('the page of the API has exactly the routes, and its examples call them', t => {
  const page = readFileSync(pathOf('api.md'), 'utf8')
  const document = openApiDocument() as { paths: Record<string, Record<string, unknown>> }
  const routes = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map(method => `${method.toUpperCase()} ${path}`)
  )
  t.same(
    [...page.matchAll(/^### `([A-Z]+ .+)`$/gm)].map(match => match[1]),
    routes
  )
  const calls = [...page.matchAll(/^curl .*?(?:-X (\w+) )?http:\/\/vxmesh(\S+)(?: (--json))?/gm)]
  t.ok(calls.length >= 4)
  for (const [line, method, path = '', json] of calls) {
    const route = `${method ?? (json === undefined ? 'GET' : 'POST')} ${path.replace(/networks\/.+/, 'networks/{name}')}`
    t.ok(routes.includes(route), line)
  }
  t.end()
})

t.test('exactly the error codes are explained, with HTTP status, exit code and advice', t => {
  const sections = readFileSync(pathOf('errors.md'), 'utf8').split(/^## /m).slice(1)
  t.same(
    sections.map(section => section.split('\n')[0]),
    Object.keys(ERROR_CODES)
  )
  for (const [at, { http, exit }] of Object.values(ERROR_CODES).entries()) {
    const section = sections[at] ?? ''
    t.match(
      section,
      new RegExp(`^[A-Z_]+\n\nHTTP ${http}, exit code ${exit}\\. [A-Z][^]{20,}\n\n\\*\\*Do:\\*\\* .{10,}`)
    )
  }
  t.end()
})

t.test('every link in the documents has a target', t => {
  const documents = [...markdown(root, false), ...markdown(join(root, 'docs'), true)]
  t.ok(documents.length >= 8)
  for (const document of documents) {
    const text = readFileSync(document, 'utf8')
    for (const [, target = ''] of text.matchAll(/\]\((?!https?:)([^)\s]+)\)/g)) {
      const [path = '', anchor] = target.split('#')
      const file = path === '' ? document : resolve(dirname(document), path)
      t.ok(existsSync(file), `${relative(root, document)}: ${target}`)
      if (anchor !== undefined) t.ok(anchors(file).includes(anchor), `${relative(root, document)}: ${target}`)
    }
  }
  t.end()
})

function markdown(folder: string, recursive: boolean): string[] {
  return readdirSync(folder, { recursive, encoding: 'utf8' })
    .filter(name => name.endsWith('.md'))
    .map(name => join(folder, name))
}

/** The anchors of headings. */
function anchors(file: string): string[] {
  const headings = readFileSync(file, 'utf8').matchAll(/^#+ (.+)$/gm)
  return [...headings].map(([, text = '']) =>
    text
      .toLowerCase()
      .replace(/[^\w\s-]/g, '')
      .replaceAll(' ', '-')
  )
}
