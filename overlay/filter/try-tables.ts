// Makes the tables in a namespace that nobody sees: tells whether this kernel and this nft can do it, and how they list
// it. nft words a rule in its own way, different from one version to the next, so only its own listing can be compared.

import { asVxmeshError } from '#model/errors.ts'
import { withScratchNetns } from '#platform/netns.ts'
import { parseListing } from '../plan/filter/listing.ts'
import { listTable, runNft } from '../kernel/nft.ts'
import { installScript } from '../plan/filter/plan-filter.ts'
import { filterTables, type FilterParameters, type FilterTable } from '../plan/filter/ruleset.ts'

/** `failure` has the kernel's or nft's words when the table cannot be had. */
export type TriedTable = { readonly table: FilterTable } & (
  { readonly shape: string; readonly failure: null } | { readonly shape: null; readonly failure: string }
)

/** Takes some 25 ms. Never throws. */
export async function tryTables(parameters: FilterParameters): Promise<readonly TriedTable[]> {
  const tables = filterTables(parameters)
  try {
    return await withScratchNetns(netns => Promise.all(tables.map(table => tryTable(netns, table))))
  } catch (err) {
    return tables.map(table => ({ table, shape: null, failure: asVxmeshError(err).message }))
  }
}

async function tryTable(netns: string, table: FilterTable): Promise<TriedTable> {
  try {
    await runNft(netns, installScript(table, new Map()), 'try it in a new namespace')
    return { table, shape: parseListing(table, await listTable(netns, table)).shape, failure: null }
  } catch (err) {
    return { table, shape: null, failure: asVxmeshError(err).message }
  }
}
