// docs/security.md: who can do what at each door. Every cell names tests that hold it, and they exist under that title.

import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import t from 'tap'

const ROOT = resolve(import.meta.dirname, '../..')
const WHO = ['stranger', 'tenant', 'local user', 'client host', 'server', 'holder of the key']
const DOORS = /Serf, 7946|7947|4789|ZeroMQ|RPC, 7373|agent\.sock|http\.listen|CNI|dataDir|container’s port|router/

const read = (path: string): string => readFileSync(resolve(ROOT, path), 'utf8')

/** The cells of each line of a table whose first heading is this. */
function table(page: string, heading: string): readonly (readonly string[])[] {
  const lines = page.split('\n')
  const start = lines.findIndex(line => line.startsWith(`| ${heading} `))
  const length = lines.slice(start).findIndex(line => !line.startsWith('|'))
  const rows = lines.slice(start, start + length).map(line => line.split('|').slice(1, -1))
  return rows.filter(([first]) => !/^ *-+ *$/.test(first ?? '')).map(row => row.map(cell => cell.trim()))
}

const page = read('docs/security.md')
const [[, ...who] = [], ...doors] = table(page, 'door')
const [, ...tests] = table(page, 'held by')
const refsOf = (cell: string): readonly string[] => [...cell.matchAll(/\[[a-z][a-z0-9-]*\]/g)].map(([ref]) => ref)

t.test('the table has everybody and every door, and each cell a phrase and a test', t => {
  t.same(who, WHO)
  t.equal(doors.length, 12)
  const known = new Set(tests.map(([ref]) => ref))
  for (const [door = '', ...cells] of doors) {
    t.match(door, DOORS)
    t.equal(cells.length, WHO.length, door)
    for (const [at, cell] of cells.entries()) {
      const refs = refsOf(cell)
      t.ok(refs.length > 0 && /^[^[]{4,}/.test(cell), `${door}, ${WHO[at] ?? ''}: ${cell}`)
      for (const ref of refs) t.ok(known.has(ref), `${ref} is listed`)
    }
  }
  t.end()
})

t.test('each test that is named exists under its title, and is named by a cell', t => {
  const named = new Set(doors.flat().flatMap(refsOf))
  for (const [ref = '', file = '', title = ''] of tests) {
    t.ok(named.has(ref), `${ref} holds a cell`)
    const source = read(file.replaceAll('`', ''))
    const pattern = title.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')
    t.match(source, new RegExp(`\\.test\\(\\s*['\`]${pattern}['\`]`), `${file}: ${title}`)
  }
  t.equal(new Set(tests.map(([ref]) => ref)).size, tests.length, 'no reference twice')
  t.end()
})
