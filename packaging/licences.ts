// The licence texts of all third-party code in the package.

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

type Facts = { readonly name: string; readonly version?: string; readonly license?: string }

/** @param files the files of all packages, relative to the checkout */
export function licences(root: string, files: readonly string[]): string {
  const folders = new Set(files.filter(file => file.includes('node_modules/')).map(file => folderOf(root, file)))
  const node = dirname(dirname(process.execPath))
  const sections = [...folders, node].map(folder => {
    const { name, version = '', license = 'see its text' } = readFacts(folder)
    const texts = readdirSync(folder).filter(file => /^(licen[cs]e|copying|notice)/i.test(file))
    const text = texts.sort().map(file => readFileSync(join(folder, file), 'utf8').trim())
    return `${'='.repeat(78)}\n${[`${name} ${version}: ${license}`, ...text].join('\n\n')}\n`
  })
  return sections.sort().join('\n')
}

/** The nearest parent folder whose package.json has a name and a version. */
function folderOf(root: string, file: string): string {
  let folder = dirname(join(root, file))
  while (!existsSync(join(folder, 'package.json')) || readFacts(folder).version === undefined) folder = dirname(folder)
  return folder
}

function readFacts(folder: string): Facts {
  return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Facts
}
