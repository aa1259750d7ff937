//! Files that must not be lost: directories, atomic records, locks, blobs by digest.
//! What is inside them is the business of the rows above.
