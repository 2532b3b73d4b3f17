import type { SessionEvent } from './session-event.js'
import { TokenError } from './shared/errors.js'
import type { Session, SessionReport } from './shared/protocol.js'

/** What the listeners of this page know of the session. */
export interface KnownSession {
  /** Null until the worker's first report: what that report contains is no news. */
  session?: Session | null
  /** Listeners have been asked for a sign-in, and none has followed. */
  loginRequired?: boolean
}

/** What listeners know once they have got `event`. */
export const afterEvent = (known: KnownSession, event: SessionEvent): KnownSession => {
  const after = { ...known }
  if ('session' in event && event.session) after.session = event.session
  if (event.type === 'signed-out') after.session = undefined
  if (!/state|problem|step-up/.test(event.type)) {
    after.loginRequired = event.type === 'login-required'
  }
  return after
}

/** The events that lie between what listeners know and what the worker reports, in order. */
export const newsBetween = (known: KnownSession, report: SessionReport): SessionEvent[] => {
  const before = known.session
  const { session, loginRequired, ended = 'storage_cleared', code } = report
  const news: SessionEvent[] = []
  const isOtherUser = session?.claims['sub'] !== before?.claims['sub']
  const isRenewed = session?.accessTokenExpiresAt !== before?.accessTokenExpiresAt
  if (before && (!session || isOtherUser)) {
    news.push({ type: 'signed-out', reason: session ? 'user_changed' : ended, code })
  }
  if (session && before !== null) {
    if (session.since !== before?.since) news.push({ type: 'signed-in', session })
    else if (session.state === 'fresh' && isRenewed) news.push({ type: 'renewed', session })
    else if (session.state !== before.state) news.push({ type: 'state', session })
  }
  if (loginRequired && !known.loginRequired) {
    const error = new TokenError('login_required', 'The user has to sign in.')
    news.push({ type: 'login-required', error, session })
  }
  return news
}
