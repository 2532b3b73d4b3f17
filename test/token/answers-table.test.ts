// Goes through every row of the table of answers in docs/storage.md: what a worker makes of what
// the token endpoint says, how often and over how long.
import { describe, expect, test } from 'vitest'
import { TokenError } from '../../src/shared/errors.js'
import type { ActiveRecord } from '../../sw/session/records.js'
import { readTable } from '../support/docs.js'
import { json } from '../support/fake-authorization-server.js'
import { type Fetch, fakePage, settle } from '../support/fake-platform.js'
import { createUnitWorld } from '../support/worker-parts.js'

const table = readTable('docs/storage.md', 'answers')

type Answer = () => Response | Promise<Response>
const status =
  (code: number, body = '', headers: Record<string, string> = {}): Answer =>
  () =>
    new Response(body, { status: code, headers })
const error =
  (name: string, code = 400): Answer =>
  () =>
    json({ error: name }, code)
const none: Answer = () => Promise.reject(new TypeError('Failed to fetch'))
const html = { 'content-type': 'text/html' }

/** What is answered to each try; one stands for all. */
const rows: Record<string, Answer | [Answer, Answer, Answer, Answer]> = {
  '400 invalid_grant': error('invalid_grant'),
  401: status(401),
  '400 login_required': error('login_required'),
  '400 invalid_client': error('invalid_client'),
  '400 invalid_request': error('invalid_request'),
  '400 invalid_token': error('invalid_token'),
  '400 and a code of its own': error('token_expired'),
  '400 without a body': status(400),
  '403 and a web page': status(403, '<html>', html),
  404: status(404, 'Not Found'),
  '200 invalid_grant': error('invalid_grant', 200),
  '200 and a code of its own': error('bad_refresh_token', 200),
  '200 without a token': () => json({ ok: true }),
  '404, 503, 404, 503 in turn': [status(404), status(503), status(404), status(503)],
  '404, no network, 404, 404 in turn': [status(404), none, status(404), status(404)],
  '400 temporarily_unavailable': error('temporarily_unavailable'),
  '403 and Retry-After': status(403, '', { 'retry-after': '60' }),
  408: status(408),
  425: status(425),
  429: status(429),
  503: status(503),
  '200 and a web page (captive portal)': status(200, '<html>', html),
  500: status(500),
  '502 and a web page': status(502, '<html>', html),
  none,
  'none, without a network': none,
}

const tries = {
  'First try': 0,
  '10 seconds later': 10_000,
  '3 minutes later': 180_000,
  '20 minutes later': 1_200_000,
}

/** Whether there is a network at a try. */
const isOnline = (title: string, index: number) =>
  !title.includes('without a network') && !(title.includes('no network') && index === 1)

const setUp = async () => {
  const world = createUnitWorld()
  const { browser, server } = world
  // A pause is as short as it can be; how long it can be is in the tests of refresh.ts.
  browser.random = 0
  browser.pages.push(fakePage())
  const record = await world.signIn({ silentLoginWorks: true })
  await world.createWorker().authorizationServer.refresh('a first request, for the metadata')
  server.answers.length = 0
  const heard: string[] = []

  /** A worker that has just been started renews. */
  const renew = async (answer: Answer) => {
    const tried: string[] = []
    const fetch: Fetch = async (input) => {
      if (String(input) !== server.metadata.token_endpoint) return await server.fetch(input)
      tried.push('refresh')
      return await answer()
    }
    const worker = world.createWorker({
      fetch,
      silentLogin: async () => {
        tried.push('frame')
        return { kind: 'failed', error: new TokenError('timeout', 'It brings nothing.') }
      },
    })
    const result = await worker.renewal.renew({ spoiled: record.accessToken })
    await settle()
    const after = (await worker.store.read()) as ActiveRecord
    const told = worker.events.map(({ type }) => type).filter((type) => type !== 'state')
    heard.push(...told)
    expect(result.kind).toBe('unavailable')
    // Nobody is signed out, and no access token is lost.
    expect(after).toMatchObject({ status: 'active', accessToken: record.accessToken })
    return `${tried.join(', ')} → ${after.loginRequired ? 'stale' : 'later'}`.trim()
  }
  return { browser, heard, renew }
}

describe('what the token endpoint answers', () => {
  test('is in the docs', () => {
    expect([...table.keys()].sort()).toEqual(Object.keys(rows).sort())
  })

  for (const [title, cells] of table) {
    test(`${title}: pages hear ${cells.get('Pages hear, in this order')} (RF-06, RF-09)`, async () => {
      const { browser, heard, renew } = await setUp()
      const answers = rows[title] as Answer | Answer[]
      for (const [index, [when, ms]] of Object.entries(tries).entries()) {
        await browser.pass(ms)
        browser.online = isOnline(title, index)
        const answer = Array.isArray(answers) ? (answers[index] as Answer) : answers
        expect(await renew(answer), when).toBe(cells.get(when))
      }
      expect(heard.join(', ') || 'nothing').toBe(cells.get('Pages hear, in this order'))
    })
  }
})
