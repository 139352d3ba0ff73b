// A list in one of two forms. With `limit` or `continue`, one page of it: `{ items, continue }`. Without either, the whole
// list as an array, however long: it is read and written page by page, so that the agent goes on with its work meanwhile.

import { Readable } from 'node:stream'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { FastifyReply } from 'fastify'
import type { PageRange } from '#model/agent-port.ts'
import type { PageView } from '#model/views.ts'
import { check, pageLimit, pageToken } from './schemas.ts'

/** Rows that are read at a time. */
const PAGE = 500

export type Listed = { Querystring: { limit?: string; continue?: string } }

/** @throws ERR_INVALID, and what `read` throws for the first page; a later failure cuts the answer short */
export async function answerList<Row>(
  { query }: { readonly query: Listed['Querystring'] },
  reply: FastifyReply,
  read: (range: PageRange) => Promise<PageView<Row>>
): Promise<unknown> {
  if (query.limit !== undefined || query.continue !== undefined) {
    const token = check(pageToken, query.continue, 'continue') ?? null
    return read({ limit: check(pageLimit, query.limit, 'limit'), continue: token })
  }
  const first = await read({ limit: PAGE, continue: null })
  if (first.continue === null) return first.items
  return reply.type('application/json; charset=utf-8').send(Readable.from(arrayText(first, read)))
}

async function* arrayText<Row>(
  first: PageView<Row>,
  read: (range: PageRange) => Promise<PageView<Row>>
): AsyncGenerator<string> {
  let separator = ''
  yield '['
  for (let page = first; ; page = await read({ limit: PAGE, continue: page.continue })) {
    if (page.items.length > 0) {
      yield `${separator}${page.items.map(row => JSON.stringify(row)).join(',')}`
      separator = ','
    }
    if (page.continue === null) break
    // A filter may leave none of many rows: the agent goes on with its work before it looks at more.
    if (page.items.length === 0) await nextTurn()
  }
  yield ']'
}
