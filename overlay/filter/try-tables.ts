// Installs the tables in a scratch namespace: tells whether this kernel and this nft can do it, and how nft lists them. Each
// version of nft prints a rule in its own form, so that only a listing by the same nft can be compared.

import { asVxmeshError } from '#model/errors.ts'
import { withScratchNetns } from '#platform/netns.ts'
import { parseListing } from '../plan/filter/listing.ts'
import { listRules, runNft } from '../kernel/nft.ts'
import { installScript } from '../plan/filter/plan-filter.ts'
import type { FilterTable } from '../plan/filter/ruleset.ts'

/** `failure` is the message of the kernel or of nft when the table cannot be installed. */
export type TriedTable = { readonly table: FilterTable } & (
  { readonly shape: string; readonly failure: null } | { readonly shape: null; readonly failure: string }
)

/** Takes some 25 ms. Never throws. */
export async function tryTables(tables: readonly FilterTable[]): Promise<readonly TriedTable[]> {
  try {
    return await withScratchNetns(netns => tryTogether(netns, tables))
  } catch (err) {
    return tables.map(table => ({ table, shape: null, failure: asVxmeshError(err).message }))
  }
}

/** All of them at once, and one by one if that fails: a kernel may lack what one of them needs. */
async function tryTogether(netns: string, tables: readonly FilterTable[]): Promise<readonly TriedTable[]> {
  try {
    const scripts = tables.map(table => installScript(table, new Map()))
    await runNft(netns, scripts.join(''), 'try it in a new namespace')
    const listing = await listRules(netns)
    return tables.map(table => ({ table, shape: parseListing(table, listing).shape, failure: null }))
  } catch (err) {
    const [table, ...others] = tables
    if (table === undefined) return []
    if (others.length === 0) return [{ table, shape: null, failure: asVxmeshError(err).message }]
    return (await Promise.all(tables.map(each => tryTogether(netns, [each])))).flat()
  }
}
