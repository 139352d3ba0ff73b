// Every product file with logic is imported, directly or through other files, by a test that needs neither root nor a lab.

import t from 'tap'
import ts from 'typescript'
import { importsOf, isPackage, parse, PRODUCT, sources, targetOf } from './imports.ts'

const tests = sources('test').filter(file => !/^test\/(namespace|qemu|uml|conformance|chaos|demo)\//.test(file))
/** The simulator and the fuzzer are programs of their own. */
const PROGRAMS = ['test/sim/main.ts', 'test/fuzz/main.ts']

t.test('a unit test reaches every product file with logic', t => {
  const roots = tests.filter(file => file.endsWith('.test.ts') || PROGRAMS.includes(file))
  t.ok(roots.length > 100, `${roots.length} tests are looked at`)
  const reached = reachableFrom(roots)
  const unreached = PRODUCT.flatMap(sources).filter(file => !reached.has(file) && hasLogic(parse(file)))
  t.same(unreached, [])
  t.end()
})

t.test('only code that runs is logic', t => {
  for (const [text, expected] of [
    ['export type A = { b: (c: number) => void }', false],
    ['export interface A { b(c: number): void }', false],
    ['export const SIZE = 4, NAMES = { a: "b" } as const', false],
    ['import { b } from "./b.ts"\nexport const A = b', false],
    ['export function f(): number { return 1 }', true],
    ['export const f = (a: number) => a + 1', true],
    ['export class A { b = 1 }', true],
    ['export const A = { b() { return 1 } }', true],
    ['if (process.argv.length > 2) throw new Error("usage")', true]
  ] as const) {
    t.equal(hasLogic(ts.createSourceFile('a.ts', text, ts.ScriptTarget.Latest, true)), expected, text)
  }
  t.end()
})

t.test('an import of types alone reaches nothing', t => {
  const reached = reachableFrom(['test/lab/host.ts'])
  t.ok(reached.has('src/platform/process.ts'), 'imported directly')
  t.ok(reached.has('src/model/errors.ts'), 'imported by what is imported')
  t.notOk(reachableFrom(['test/agent/observe/events.test.ts']).has('src/agent/agent.ts'))
  t.end()
})

/** Follows the imports that remain at run time. */
function reachableFrom(roots: readonly string[]): ReadonlySet<string> {
  const reached = new Set<string>()
  const queue = [...roots]
  for (let file = queue.pop(); file !== undefined; file = queue.pop()) {
    if (reached.has(file)) continue
    reached.add(file)
    const local = importsOf(file, 'values').filter(name => !isPackage(name) && !name.startsWith('node:'))
    for (const specifier of local) {
      const target = targetOf(file, specifier)
      if (target.endsWith('.ts')) queue.push(target)
    }
  }
  return reached
}

function hasLogic(source: ts.SourceFile): boolean {
  const isLogic = (node: ts.Node): boolean =>
    ts.isClassDeclaration(node) ||
    ts.isIfStatement(node) ||
    ts.isExpressionStatement(node) ||
    (ts.isFunctionLike(node) && 'body' in node && node.body !== undefined) ||
    ts.forEachChild(node, isLogic) === true
  return isLogic(source)
}
