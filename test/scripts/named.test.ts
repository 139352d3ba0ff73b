// Everything that the documents name exists: commands, metrics, settings, error codes.

import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { CommanderError, type Command } from 'commander'
import t from 'tap'
import { parse } from 'yaml'
import { openApiDocument } from '#api/openapi.ts'
import { CONFIG_KEYS } from '#config/load.ts'
import { configShape } from '#config/schema.ts'
import { FAMILIES } from '#metrics/families.ts'
import { ERROR_CODES } from '#model/errors.ts'
import { idleCommands } from '../../scripts/docs.ts'

const root = resolve(import.meta.dirname, '../..')
const pages = ['docs', 'docs/adr']
  .flatMap(folder => readdirSync(join(root, folder)).map(name => `${folder}/${name}`))
  .concat('README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md')
  .filter(name => name.endsWith('.md'))
  .map(name => ({ name, text: readFileSync(join(root, name), 'utf8') }))

/** Every match of a pattern, with its page. */
function found(pattern: RegExp): { readonly page: string; readonly match: RegExpMatchArray }[] {
  return pages.flatMap(({ name, text }) => [...text.matchAll(pattern)].map(match => ({ page: name, match })))
}

type Line = { readonly page: string; readonly line: string; readonly whole: boolean }

/** Command lines. Those in code blocks are `whole`, since people copy them; running text may omit arguments. */
function commandLines(): readonly Line[] {
  return pages
    .filter(({ name }) => name !== 'CONTRIBUTING.md' && !name.startsWith('docs/adr/'))
    .flatMap(({ name: page, text }) => {
      const blocks = [...text.matchAll(/^```\w*\n([^]*?)^```|^ {4}\S.*/gm)].flatMap(([all, block]) =>
        (block ?? all).split('\n').filter(line => !line.startsWith('Usage:'))
      )
      const spans = [...text.replace(/^```[^]*?^```/gm, '').matchAll(/`([^`\n]+(?:\n[^`\n]+)?)`/g)].map(m => m[1] ?? '')
      return [
        ...blocks.flatMap(line => linesIn(line).map(one => ({ page, line: one, whole: /^( {4}|#|\w)/.test(line) }))),
        ...spans.flatMap(span => linesIn(span).map(one => ({ page, line: one, whole: false })))
      ]
    })
}

/** The words after `vxmesh` (or `on 1` in the README), up to shell syntax or the rest of the sentence. */
function linesIn(text: string): readonly string[] {
  const calls = text
    .replaceAll('\n', ' ')
    .replace(/\$\(.*?\)/, '')
    .matchAll(/(?<!-u)(?:^|[\s(]|bin\/)(?:vxmesh|on \d) (?!itself)((?:[a-z]|-)[^#|;&)>`]*)/g)
  return [...calls].map(([, rest = '']) => rest.replace(/[,:] .*/, '').trim())
}

/** The usage error of a command line, or null. Does not execute the command. */
function refusal(line: string): Error | null {
  const tree = idleCommands()
  const walk = (command: Command): void => {
    if (command.commands.length === 0) command.action(() => undefined)
    // The only flag whose value is looked up on the machine.
    for (const option of command.options) if (option.long === '--netns') option.argParser(text => text)
    for (const inner of command.commands) walk(inner)
  }
  walk(tree)
  const words = line.split(/\s+/).map(word => PLACEHOLDERS[word] ?? word)
  try {
    tree.parse(words, { from: 'user' })
    return null
  } catch (err) {
    return err instanceof CommanderError && err.exitCode === 0
      ? null
      : err instanceof Error
        ? err
        : new Error('no error was thrown', { cause: err })
  }
}

const PLACEHOLDERS: Readonly<Record<string, string>> = {
  ...{
    NAME: 'h1',
    NEW: 'h5',
    OTHER: 'green',
    NAMESPACE: 'shop',
    NETWORK: 'blue',
    ADDRESS: '192.0.2.1',
    FILE: '/backup/b.snap'
  },
  ...{ COMMAND: 'status', PREFIX: 'endpoint/', '"${@:2}"': 'status' }
}
const LEFT_AWAY = ['commander.missingArgument', 'commander.missingMandatoryOptionValue', 'commander.help']

t.test('every command line parses; those in code blocks are complete', t => {
  const lines = commandLines()
  const inBlocks = lines.filter(({ whole }) => whole).length
  t.ok(inBlocks > 40 && lines.length > 150, `${inBlocks} of ${lines.length} lines in blocks`)
  for (const { page, line, whole } of lines) {
    const err = refusal(line)
    const well = err === null || (!whole && err instanceof CommanderError && LEFT_AWAY.includes(err.code))
    t.ok(well, `${page}: vxmesh ${line}${well ? '' : `: ${err.message}`}`)
  }
  for (const wrong of ['host destroy h1', 'status --fast', 'host remove', 'network create blue'])
    t.ok(refusal(wrong), wrong)
  t.end()
})

/** Tables of nftables. */
const TABLES = ['vxmesh_ports', 'vxmesh_underlay', 'vxmesh_doors', 'vxmesh_serf', 'vxmesh_nat', 'vxmesh_router']

t.test('every named metric exists, with its label', t => {
  const names = found(/\b(vxmesh_[a-z_]+)(?:\{(\w+)=)?/g).filter(({ match }) => !TABLES.includes(match[1] ?? ''))
  t.ok(names.length > 40)
  for (const { page, match } of names) {
    const [text, name = '', label] = match
    const family = FAMILIES.find(
      f => name === f.name || (f.type === 'histogram' && name.replace(/_(bucket|sum|count)$/, '') === f.name)
    )
    t.ok(family !== undefined && (label === undefined || label === 'job' || label === family.label), `${page}: ${text}`)
  }
  t.end()
})

t.test('every named error code exists', t => {
  for (const { page, match } of found(/\bERR_[A-Z]+(?:_[A-Z]+)*\b(?!_)/g)) {
    t.ok(Object.hasOwn(ERROR_CODES, match[0]), `${page}: ${match[0]}`)
  }
  t.end()
})

/** Other dotted names that begin like a section: files of Serf, findings of doctor, fields of an endpoint. */
const NO_KEYS = [
  ...['serf.pid', 'serf.json', 'serf.log', 'serf.log.1', 'serf.snapshot', 'serf.program', 'serf.flood'],
  'dns.nameservers'
]

t.test('every dotted name that begins with a section is a configuration key or a field of a status', t => {
  const sections = [...new Set(CONFIG_KEYS.filter(key => key.includes('.')).map(key => key.split('.')[0]))]
  const { components } = openApiDocument() as { components: { schemas: { Status: Shape } } }
  const known = new Set([...CONFIG_KEYS, ...fieldsOf(components.schemas.Status), ...NO_KEYS])
  const names = found(
    new RegExp(`(?<![\\w./@-])(?:${sections.join('|')})(?:\\.[a-z][a-zA-Z]*)+(?![\\w/*]|\\.\\w)`, 'g')
  )
  t.ok(names.length > 60)
  for (const { page, match } of names) t.ok(known.has(match[0]), `${page}: ${match[0]}`)
  t.end()
})

type Shape = { readonly properties?: Readonly<Record<string, Shape>> }

function fieldsOf({ properties = {} }: Shape, prefix = ''): readonly string[] {
  return Object.entries(properties).flatMap(([name, inner]) => [
    `${prefix}${name}`,
    ...fieldsOf(inner, `${prefix}${name}.`)
  ])
}

t.test('every settings file that is shown is valid', t => {
  const blocks = found(/^```yaml\n([^]*?)^```/gm).filter(({ match }) => match[1]?.includes('bind:'))
  t.ok(blocks.length >= 4)
  for (const { page, match } of blocks) {
    t.match(configShape.safeParse(parse(match[1] ?? '')), { success: true }, `${page}: ${match[1] ?? ''}`)
  }
  t.end()
})
