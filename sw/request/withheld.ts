import type { TokenErrorCode } from '../../src/shared/errors.js'
import { activeOf } from '../session/records.js'
import type { WorkerSession } from '../session/session.js'
import type { Note } from '../trace.js'
import type { ApiRule, Reason, Withheld } from './intercept.js'

declare const DEVELOPMENT: boolean

/** In words, for the development build. */
const explanations: Readonly<Record<Reason, string>> = {
  authorization: 'it has a header Authorization or DPoP of its own',
  cache: "its cache mode 'only-if-cached' leaves nothing to send",
  destination: "it is for an element that the entry's `destinations` leave out",
  endpoint: 'it is for an endpoint of the authorization server',
  method: "the entry's `methods` leave its method out",
  mode: "its mode is 'no-cors', which allows no such header (images need `crossorigin`)",
  path: 'a server could read its path as one outside of the entry, or inside of a closer one',
  unlisted: 'no entry of `apis` covers it',
}

/** Elements that an entry can list. */
const listable = /^(image|audio|video|track|font)?$/

/** What has been said of each API. */
const said = new WeakMap<ApiRule, Set<string>>()

/** Says once for each API why its requests have no token. For the development build. */
export const hint = ({ method, url }: Request, rule: ApiRule, words: string) => {
  const all = said.get(rule) ?? new Set()
  said.set(rule, all)
  if (all.has(words)) return
  all.add(words)
  const { origin, pathname } = new URL(url)
  console.warn(`tokenward: ${method} ${origin}${pathname} ${words}.`)
}

/** Says why a request fails before the API is asked. For the development build. */
export const hintFailure = (request: Request, rule: ApiRule, code: TokenErrorCode) =>
  hint(request, rule, `fails as a network error: there is no token now (${code})`)

/**
 * Creates what takes note of such requests, in the trace and in the development build's console;
 * undefined where nobody looks. Only if somebody is signed in: otherwise there is nothing to have.
 */
export const createWithheld = ({
  session,
  note,
}: {
  session: Pick<WorkerSession, 'read'>
  note?: Note
}): Withheld | undefined =>
  (DEVELOPMENT || note) &&
  ((request, reason, rule) => {
    const say = async () => {
      if (!activeOf(await session.read())) return
      const { origin, pathname } = new URL(request.url)
      note?.('withheld', { method: request.method, url: origin + pathname, code: reason })
      if (DEVELOPMENT && rule && listable.test(request.destination)) {
        hint(request, rule, `goes without a token: ${explanations[reason]}`)
      }
    }
    // The request does not wait for it, and a disk that fails is not its business.
    void say().catch(() => {})
  })
