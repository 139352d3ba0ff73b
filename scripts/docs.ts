// Generates parts of docs/ between their markers: configuration keys from the schema, commands from their help, metrics
// from their table, routes from the OpenAPI document. Run it after a change: node scripts/docs.ts

import { readFileSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Command } from 'commander'
import { ApiClient } from '#cli/client.ts'
import { commandTree } from '#cli/program.ts'
import { flagOf, variableOf } from '#config/load.ts'
import { KEY_FACTS, type KeyFacts } from '#config/schema.ts'
import { FAMILIES } from '#metrics/families.ts'
import { apiReference } from './api-page.ts'

const BEGIN = '<!-- written by scripts/docs.ts -->'
const END = '<!-- end -->'

/** Pages of docs/ with their generated part. */
export const PAGES: Readonly<Record<string, () => string>> = {
  'configuration.md': () => KEY_FACTS.map(keySection).join('\n'),
  'cli.md': () =>
    commandHelp()
      .map(({ path, help }) => `## \`${`vxmesh ${path}`.trim()}\`\n\n\`\`\`\n${help.trim()}\n\`\`\`\n`)
      .join('\n'),
  'metrics.md': metricsTable,
  'api.md': apiReference
}

/** The page with its generated part replaced. */
export function withGeneratedPart(page: string): string {
  const text = readFileSync(pathOf(page), 'utf8')
  const [before, rest] = text.split(BEGIN)
  const after = rest?.split(END)[1]
  const written = PAGES[page]?.()
  if (before === undefined || after === undefined || written === undefined) throw new Error(`${page} has no markers`)
  return `${before}${BEGIN}\n\n${written}\n${END}${after}`
}

export function pathOf(page: string): string {
  return resolve(import.meta.dirname, '../docs', page)
}

/** The command tree, without any effects. */
export function idleCommands(out: (text: string) => void = () => undefined): Command {
  const io = { env: {}, out, err: () => undefined }
  const client = (): ApiClient => new ApiClient('')
  const backup = (): Promise<never> => Promise.reject(new Error('this command tree only prints help'))
  const shape = { formatOf: () => 'table' as const, socketOf: () => '', backup, doctor: backup }
  const context = {
    io,
    client,
    ...shape,
    show: () => Promise.resolve(undefined as never),
    showList: () => Promise.resolve()
  }
  return commandTree({ context, io, version: '', runAgent: () => Promise.resolve(0), exit: () => undefined })
}

/** Every command by its path, with its help at 80 columns. */
export function commandHelp(): { readonly path: string; readonly help: string }[] {
  let help = ''
  const tree = idleCommands(text => (help += text))
  const walk = (command: Command, path: string): { path: string; help: string }[] => {
    help = ''
    command.outputHelp()
    const own = { path, help }
    return [own, ...command.commands.flatMap(inner => walk(inner, `${path} ${inner.name()}`.trim()))]
  }
  return walk(tree, '')
}

function keySection({ key, accepts, description, fallback, change }: KeyFacts): string {
  if (description === '' || accepts === '')
    throw new Error(`${key}: its schema lacks a description or the accepted values`)
  const defaultText = fallback === undefined ? 'no fixed default' : `default \`${JSON.stringify(fallback)}\``
  return `### \`${key}\`\n\n${description}.\n\nTakes ${accepts}; ${defaultText}. \`${flagOf(key)}\`, \`${variableOf(key)}\`.${change === 'reloadable' ? ' **Reloadable.**' : ''}\n`
}

function metricsTable(): string {
  const rows = FAMILIES.map(({ name, type, label, help }) => {
    return `| \`${name}\` | ${type} | ${label === null ? '' : `\`${label}\``} | ${help} |\n`
  })
  return `| metric | type | label | meaning |\n| --- | --- | --- | --- |\n${rows.join('')}`
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  for (const page of Object.keys(PAGES)) writeFileSync(pathOf(page), withGeneratedPart(page))
}
