import { TokenError } from '../src/shared/errors.js'
import type { AuthPage, SessionReport, WorkerCalls } from '../src/shared/protocol.js'
import type { ApiParts } from './offline/api-parts.js'
import type { Platform } from './platform.js'
import { activeOf } from './session/records.js'
import type { WorkerSession } from './session/session.js'
import type { Store } from './session/store.js'
import type { Landing } from './sign-in/landing.js'
import type { Login } from './sign-in/login.js'
import type { Logout } from './sign-in/logout.js'
import { singleFlight } from './single-flight.js'
import type { AccessToken } from './token/access-token.js'
import type { Renewal } from './token/renewal.js'
import type { SilentLogin } from './token/silent-login.js'

declare const DEVELOPMENT: boolean

/** What one page may call. */
export type PageCallsFor = (
  pageId: string,
  keepAlive: (work: Promise<unknown>) => void,
) => WorkerCalls

/** Creates what pages may call. */
export function createPageCalls({
  config: { authUrls, root, apis },
  store: { name: channel },
  session,
  login,
  logout,
  landing,
  silentLogin,
  accessToken,
  renewal,
  platform: { pages },
  apiParts: { resume },
}: {
  config: {
    authUrls: Readonly<Record<AuthPage, string>>
    root: string
    apis: readonly { origin: string }[]
  }
  store: Pick<Store, 'name'>
  session: Pick<WorkerSession, 'readAgain' | 'report'>
  login: Pick<Login, 'begin'>
  logout: Pick<Logout, 'begin' | 'outcome'>
  landing: Pick<Landing, 'newsFor'>
  silentLogin: SilentLogin
  accessToken: Pick<AccessToken, 'backOnline'>
  renewal: Pick<Renewal, 'renew' | 'exclusively'>
  platform: Pick<Platform, 'pages'>
  apiParts: Pick<ApiParts, 'resume'>
}): PageCallsFor {
  /** Asks the authorization server by a hidden frame whether it knows the user. */
  const checkSession = singleFlight(
    (page: string): Promise<SessionReport> =>
      renewal.exclusively(async () => {
        const record = await session.readAgain()
        const outcome = await silentLogin({ purpose: 'check', page, record })
        if (outcome.kind === 'signed-in') return session.report(outcome.record)
        if (outcome.kind === 'superseded') return session.report(await session.readAgain())
        if (outcome.error.code === 'login_required') return {}
        throw outcome.error
      }),
  )

  return (pageId, keepAlive) => ({
    hello: async () => {
      keepAlive(resume())
      const news = await landing.newsFor(pageId).catch(() => undefined)
      return {
        ...{ probeUrl: authUrls.done, channel, ...news },
        ...(DEVELOPMENT && { apis: apis.map(({ origin }) => origin) }),
      }
    },

    claim: () => pages.claim(),

    session: async () => session.report(await session.readAgain()),

    login: async (input) => {
      const open = await pages.list(root)
      // Servers have to forbid it (RFC 9700 4.16), so the frame would only go blank.
      if (open.find(({ id }) => id === pageId)?.topLevel === false) {
        throw new TokenError('unsupported', 'No sign-in inside a frame: call login() around it.')
      }
      return await login.begin(input)
    },

    checkSession: () => checkSession(pageId),

    renew: async () => {
      const spoiled = activeOf(await session.readAgain())?.accessToken
      const result = await renewal.renew({ spoiled, impatient: true })
      if (result.kind === 'unavailable') throw result.error
      if (result.kind !== 'signed-out') return
      // On the disk, so that a worker which was stopped meanwhile says it, too.
      const { code = 'signed_out' } = session.report(await session.readAgain())
      throw new TokenError(code, 'Nobody is signed in.')
    },

    // Answered at once: the page has nothing to do but to go on.
    online: async () =>
      keepAlive(
        accessToken
          .backOnline()
          .catch(() => {})
          .then(resume),
      ),

    logout: (input) => logout.begin(input, keepAlive),

    logoutOutcome: ({ url }) => logout.outcome(url),
  })
}
