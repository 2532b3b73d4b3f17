// Every edit that the server has not confirmed, on the disk. The page writes an edit down before
// anything is sent, and whoever gets the API's answer, page or worker, notes it here. So this, and
// nothing else, says what is not sent yet; what the worker's queue holds is only on its way.
//
// The state of an edit:
//   new      the page still has to give it to the worker
//   queued   the worker keeps it, and sends it when it can
//   done     the server has it; it stays until a list that contains it is here
//   refused  the server does not want it, and said so with `status`
import { openDB } from 'idb'

const opening = openDB('field-notes', 1, {
  upgrade(db) {
    const edits = db.createObjectStore('edits', { keyPath: 'number', autoIncrement: true })
    edits.createIndex('key', 'key', { unique: true })
    edits.createIndex('user', 'user')
  },
})

const channel = new BroadcastChannel('field-notes')
const listeners = new Set()

/** Tells this page, the others, and from the worker all of them. */
const tell = () => {
  channel.postMessage('changed')
  for (const listener of listeners) listener()
}
channel.onmessage = () => {
  for (const listener of listeners) listener()
}

export const onJournalChange = (listener) => listeners.add(listener)

/** A user's edits, oldest first. */
export const editsOf = async (user) => (await opening).getAllFromIndex('edits', 'user', user)

/** `{ user, method, id, note }`; resolves when it is on the disk. */
export const writeDown = async (edit) => {
  const tx = (await opening).transaction('edits', 'readwrite', { durability: 'strict' })
  // A new edit of a note replaces one that was refused.
  for (const other of await tx.store.index('user').getAll(edit.user)) {
    if (other.id === edit.id && other.state === 'refused') tx.store.delete(other.number)
  }
  tx.store.add({ ...edit, key: crypto.randomUUID(), state: 'new' })
  await tx.done
  tell()
}

/** What has become of an edit; undefined where it is over. */
const note = async (key, change) => {
  const tx = (await opening).transaction('edits', 'readwrite')
  const edit = await tx.store.index('key').get(key)
  if (edit && change) tx.store.put({ ...edit, ...change })
  else if (edit) tx.store.delete(edit.number)
  await tx.done
  tell()
}

export const noteQueued = (key) => note(key, { state: 'queued' })

/** The API's own answer: to the page at once, or to the worker later. */
export const noteAnswer = async (key, response) => {
  if (!response.ok) return note(key, { state: 'refused', status: response.status })
  const { revision } = await response.json()
  return note(key, { state: 'done', revision })
}

/** The worker no longer keeps it. Unless its user has signed out, the page gives it once more. */
export const noteDropped = (key, reason) =>
  note(key, reason === 'logout' ? undefined : { state: 'new' })

/** Forgets a user's edits: those that satisfy the predicate, or all. */
export const forget = async (user, predicate = () => true) => {
  const tx = (await opening).transaction('edits', 'readwrite')
  for (const edit of await tx.store.index('user').getAll(user)) {
    if (predicate(edit)) tx.store.delete(edit.number)
  }
  await tx.done
}
