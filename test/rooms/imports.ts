// The import graph of the checkout, read from the source text: what the tests about rooms look at.

import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import ts from 'typescript'

export const root = resolve(import.meta.dirname, '../..')

/** The folders of the product. */
export const PRODUCT = ['src', 'allocator', 'membership', 'overlay']

/** TypeScript files below a folder; paths here and elsewhere are relative to the checkout. */
export function sources(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith('.ts'))
    .map(name => join(folder, name))
    .sort()
}

export function parse(file: string): ts.SourceFile {
  return ts.createSourceFile(file, readFileSync(join(root, file), 'utf8'), ts.ScriptTarget.Latest, true)
}

/** Static and dynamic imports. Type-only imports count, too, unless only `values` are asked for. */
export function importsOf(file: string, which: 'all' | 'values' = 'all'): string[] {
  const found: string[] = []
  const visit = (node: ts.Node): void => {
    if (
      (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) &&
      node.moduleSpecifier !== undefined &&
      ts.isStringLiteral(node.moduleSpecifier) &&
      !(
        which === 'values' &&
        ts.isImportDeclaration(node) &&
        node.importClause?.phaseModifier === ts.SyntaxKind.TypeKeyword
      )
    ) {
      found.push(node.moduleSpecifier.text)
    }
    const argument =
      ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword && node.arguments[0]
    if (argument !== undefined && argument !== false && ts.isStringLiteral(argument)) found.push(argument.text)
    ts.forEachChild(node, visit)
  }
  visit(parse(file))
  return found
}

export function isPackage(specifier: string): boolean {
  return !specifier.startsWith('.') && !specifier.startsWith('#') && !specifier.startsWith('node:')
}

/** The imported file, relative to the checkout. */
export function targetOf(file: string, specifier: string): string {
  if (specifier.startsWith('.')) return relative(root, resolve(root, dirname(file), specifier))
  const [room = '', ...rest] = specifier.slice(1).split('/')
  const folder = ['membership', 'overlay', 'allocator', 'test'].includes(room) ? room : `src/${room}`
  return [folder, ...rest].join('/')
}
